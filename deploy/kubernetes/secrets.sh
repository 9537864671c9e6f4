#!/usr/bin/env bash
# Prints the Secrets that the manifests need, made of the folder that `tandem certificates init` made:
#
#   deploy/kubernetes/secrets.sh certificates cameras.yml | kubectl apply -f -
#
# Each service gets its own key and no other. The authority's keys stay where they are. Run it again
# after a renewal: running services take the new certificates up within minutes, without a restart.
set -euo pipefail
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  echo "usage: $0 CERTIFICATES [CAMERAS.yml]" >&2
  exit 2
fi
certificates=$1

secret() {
  echo ---
  kubectl create secret generic "$@" --namespace tandem --dry-run=client --output yaml
}

# NAME FOLDER CERTIFICATE [MORE...]: with the authorities that the holder knows others by.
identity() {
  local name=$1 folder=$2 certificate=$3 more=("${@:4}")
  for file in peers-ca.crt clients-ca.crt; do
    [ ! -f "$folder/$file" ] || more+=("--from-file=$file=$folder/$file")
  done
  secret "$name" "--from-file=tls.crt=$folder/$certificate.crt" "--from-file=tls.key=$folder/$certificate.key" "${more[@]}"
}

if [ ! -f "$certificates/workstation/tokens.yaml" ]; then
  echo "$certificates/workstation/tokens.yaml is missing: browsers sign in by a token, see docs/kubernetes.md" >&2
  exit 2
fi
for role in orchestrator gateway; do
  identity "workstation-$role" "$certificates/workstation" "$role" "--from-file=tokens.yaml=$certificates/workstation/tokens.yaml"
done
for role in backbone transformer; do
  identity "workstation-$role" "$certificates/workstation" "$role"
  identity "edge-$role" "$certificates/edge" "$role"
done
identity monitor "$certificates/prometheus" monitor
if [ $# -eq 2 ]; then
  secret cameras "--from-file=cameras.yml=$2"
fi
