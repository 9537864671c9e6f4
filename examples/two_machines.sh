#!/usr/bin/env bash
# Tandem on two machines: an edge device with the cameras, and a workstation with more power.
#
#   EDGE=tx2.local WORKSTATION=pc.local two_machines.sh workstation BUNDLE     # there
#   EDGE=tx2.local WORKSTATION=pc.local two_machines.sh edge BUNDLE            # here
#   tandem detect CAMERA --server tx2.local                                    # anywhere
#
# Each machine runs both halves of the model, so that any placement can be chosen; the orchestrator,
# which clients connect to, is best where the cameras are. Every service listens on its machine's own
# address (50050 orchestrator, 50051 backbone, 50052 transformer; metrics on 9150 to 9152). On one
# machine EDGE=127.0.0.1 and WORKSTATION=127.0.0.2 do as well. PYTHON names the interpreter.
set -euo pipefail
node=$1 bundle=$2
python=${PYTHON:-python3}
case $node in
  edge) host=$EDGE ;;
  workstation) host=$WORKSTATION ;;
  *) echo "the first argument is edge or workstation, not $node" >&2; exit 2 ;;
esac
# Whatever ends this script ends the services.
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT

"$python" -m services.transformer --node "$node" --bundle "$bundle" --host "$host" &
"$python" -m services.backbone --node "$node" --bundle "$bundle" --host "$host" \
  --transformers "{\"edge\": \"$EDGE\", \"workstation\": \"$WORKSTATION\"}" &
if [ "$node" = edge ]; then
  "$python" -m services.orchestrator --host "$host" --nodes "{
    \"edge\": {\"backbone\": \"$EDGE\", \"transformer\": \"$EDGE\"},
    \"workstation\": {\"backbone\": \"$WORKSTATION\", \"transformer\": \"$WORKSTATION\"}}" &
fi
# A service that ends ends the others, and whoever supervises this script starts it anew.
wait -n
