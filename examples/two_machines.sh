#!/usr/bin/env bash
# Tandem on two machines: an edge device with the cameras, and a workstation with more power.
#
#   export EDGE=tx2.local WORKSTATION=pc.local CERTIFICATES=certificates
#   tandem certificates init made --host edge=$EDGE --host workstation=$WORKSTATION   # once
#   two_machines.sh workstation BUNDLE     # there, with made/workstation as CERTIFICATES
#   two_machines.sh edge BUNDLE            # here, with made/edge
#   tandem detect CAMERA --server tx2.local --tls-ca made/client/peers-ca.crt \
#     --tls-certificate made/client/client.crt --tls-key made/client/client.key     # anywhere
#
# Each machine runs both halves of the model, so that any placement can be chosen; the orchestrator,
# which clients connect to, is best where the cameras are. Every service listens on its machine's own
# address (50050 orchestrator, 50051 backbone, 50052 transformer; metrics on 9150 to 9152). On one
# machine EDGE=127.0.0.1 and WORKSTATION=127.0.0.2 do as well, without CERTIFICATES too. PYTHON
# names the interpreter.
set -euo pipefail
[[ $# -ge 2 ]] || { echo "usage: two_machines.sh edge|workstation BUNDLE" >&2; exit 2; }
node=$1 bundle=$2
python=${PYTHON:-python3}
case $node in
  edge) host=$EDGE ;;
  workstation) host=$WORKSTATION ;;
  *) echo "the first argument is edge or workstation, not $node" >&2; exit 2 ;;
esac
# Whatever ends this script ends the services.
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT

# as_role ROLE: the service of this role, by its certificate if there are any.
as_role() {
  local role=$1 own=${CERTIFICATES:-}
  shift
  if [ -n "$own" ]; then
    set -- "$@" --tls-certificate "$own/$role.crt" --tls-key "$own/$role.key" \
      --tls-peers-ca "$own/peers-ca.crt" --tls-clients-ca "$own/clients-ca.crt"
  fi
  exec "$python" -m "services.$role" --host "$host" "$@"
}

as_role transformer --node "$node" --bundle "$bundle" &
as_role backbone --node "$node" --bundle "$bundle" \
  --transformers "{\"edge\": \"$EDGE\", \"workstation\": \"$WORKSTATION\"}" &
if [ "$node" = edge ]; then
  as_role orchestrator --nodes "{
    \"edge\": {\"backbone\": \"$EDGE\", \"transformer\": \"$EDGE\"},
    \"workstation\": {\"backbone\": \"$WORKSTATION\", \"transformer\": \"$WORKSTATION\"}}" &
fi
# A service that ends ends the others, and whoever supervises this script starts it anew.
wait -n
