#!/usr/bin/env bash
# Prints every image that Tandem builds upon or runs beside, with the digest that its tag has today, such as
# python:3.11-slim-bookworm@sha256:... Give it as BASE_IMAGE, or in place of the tag in a compose file.
# Asks the images' registries, so it needs the network; nothing is pulled.
set -euo pipefail
cd "$(dirname "$0")/.."
{
  sed -n 's/^ARG BASE_IMAGE=//p' docker/*.Dockerfile
  # Tandem's own images are built here, and have a variable for a name.
  sed -nE 's/^ *image: "?([^"$ ]+)"?$/\1/p' docker-compose*.yml deploy/compose/*.yml
} | sort -u | if [ "${1:-}" = --list ]; then cat; else
  while read -r image; do
    digest=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$image")
    echo "$image@$digest"
  done
fi
