#!/usr/bin/env bash
# Brings docker-compose.yml up and puts it to the test, from the build to a lost stage; removes all
# that it started. All connections have the certificates of the first start. Needs Docker with
# Compose 2.23.1 or later and a Python with the client (PYTHON, by default .venv's). Everything
# listens on an address and under a name of its own, so a Tandem that runs on this machine is
# neither used nor disturbed.
set -euo pipefail
cd "$(dirname "$0")/../.."

PYTHON=${PYTHON:-.venv/bin/python}
ADDRESS=127.0.0.77
CLIP=models/demo-clip/clip.mp4
export COMPOSE_PROJECT_NAME=tandem-test-$$ COMPOSE_FILE=docker-compose.yml
export IMAGE=tandem-workstation:test-$$ ENGINE_THREADS=1 BUNDLE_DIR="" GPU="" MAX_BATCH="" JPEG_DECODING=""
export EDGE_HOST="" ORCHESTRATOR_HOST=""
export ENGINE=onnxruntime PLACEMENT=auto OBJECTIVE=throughput
export CLIENT_ADDRESS=$ADDRESS LINK_ADDRESS=$ADDRESS MONITOR_ADDRESS=$ADDRESS
export PROMETHEUS_PORT=19090 GRAFANA_PORT=13000
export GATEWAY_IMAGE=tandem-gateway:test-$$ GATEWAY_ADDRESS=$ADDRESS GATEWAY_PORT=18080 CAMERAS_DIR=""
PROMETHEUS=http://$ADDRESS:$PROMETHEUS_PORT

say() { printf '\n[%3ds] %s\n' "$SECONDS" "$*"; }
die() {
  printf 'compose.sh: %s\n' "$*" >&2
  docker compose ps --all >&2 || true
  docker compose logs --tail 20 >&2 || true
  exit 1
}
query() { "$PYTHON" tests/system/query.py "$PROMETHEUS" "$1"; }

# eventually SECONDS WHAT COMMAND...: until the command succeeds.
eventually() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || die "not in time: $what"
    sleep 1
  done
}

detect() { "$PYTHON" -u -m tandem detect "$CLIP" --server "$ADDRESS:50050" --json "$@"; }

# as HOLDER COMMAND...: with the certificate that the first start made for this holder.
as() {
  local own=$HOLDERS/$1
  TANDEM_TLS_CA=$own/peers-ca.crt TANDEM_TLS_CERTIFICATE=$own/$1.crt TANDEM_TLS_KEY=$own/$1.key \
    "${@:2}"
}

take_down() {
  docker compose down --volumes --remove-orphans --timeout 30 >/dev/null 2>&1 || true
  docker image rm "$IMAGE" "$GATEWAY_IMAGE" >/dev/null 2>&1 || true
  rm -rf "$ANSWERS" "$HOLDERS"
}

left_behind() {
  local filter="label=com.docker.compose.project=$COMPOSE_PROJECT_NAME"
  docker ps --all --quiet --filter "$filter"
  docker volume ls --quiet --filter "$filter"
  docker network ls --quiet --filter "$filter"
  docker image ls --quiet "$IMAGE"
  docker image ls --quiet "$GATEWAY_IMAGE"
}

build() {
  say "build"
  docker compose build --quiet
  docker image inspect --format '{{.Size}}' "$IMAGE" | awk '{printf "image: %d MB\n", $1 / 1e6}'
  # No compiler, and nobody's rights but its own.
  docker run --rm --entrypoint sh "$IMAGE" -c \
    'test "$(id -u)" != 0 && ! command -v gcc cc g++ c++ clang make' || die "root, or a compiler"
}

services() {
  local grafana
  grafana=$(docker compose config --images | grep grafana)
  if docker image inspect "$grafana" >/dev/null 2>&1 ||
    timeout 120 docker pull --quiet "$grafana" >/dev/null 2>&1; then
    docker compose config --services
  else
    echo "GRAFANA'S IMAGE CANNOT BE HAD HERE: LEFT OUT" >&2
    docker compose config --services | grep -v '^grafana$'
  fi
}

bring_up() {
  say "up, until every container is healthy"
  # shellcheck disable=SC2046
  docker compose up --detach --wait --wait-timeout 180 $(services) >/dev/null 2>&1 ||
    die "not healthy"
  docker compose ps --format '{{.Service}}: {{.Status}}'
}

check_certificates() {
  local volumes holder
  say "who holds what"
  for holder in client operator edge; do
    docker compose cp "certificates:/certificates/$holder" "$HOLDERS/" >/dev/null 2>&1
  done
  "$PYTHON" -m tandem certificates show "$HOLDERS/edge"
  docker compose cp certificates:/certificates/edge - | tar -tf - | sort
  as operator "$PYTHON" -m tandem status --server "$ADDRESS:50050" --json |
    "$PYTHON" -c "import json, sys; assert len(json.load(sys.stdin)['stages']) == 4" ||
    die "the operator has no status"
  ! "$PYTHON" -m tandem status --server "$ADDRESS:50050" 2>"$ANSWERS" || die "plain text is served"
  ! as client "$PYTHON" -m tandem placement full --server "$ADDRESS:50050" 2>"$ANSWERS" ||
    die "a client has set the placement"
  cat "$ANSWERS"
  volumes=$(docker inspect --format '{{range .Mounts}}{{.Name}} {{end}}' \
    "$(docker compose ps --quiet backbone)")
  [[ $volumes != *authority* ]] || die "the backbone sees the authority: $volumes"
}

check_second_start() {
  say "a second start issues nothing anew"
  docker compose up --no-deps certificates >"$ANSWERS" 2>&1 || die "the second start failed"
  ! grep issued "$ANSWERS" || die "certificates were issued anew"
}

check_prometheus_files() {
  say "promtool"
  docker compose exec -T prometheus promtool check config /etc/prometheus/prometheus.yml
  docker compose exec -T prometheus promtool check rules /etc/prometheus/alerts.yml
  docker run --rm --volume "$PWD/deploy/prometheus:/rules:ro" --entrypoint promtool \
    "$(docker compose config --images | grep prometheus)" test rules /rules/alerts.test.yml
}

gateway_is_scraped() { query 'up{job="gateway"} == 1' | grep -q .; }

look_at_the_live_view() {
  say "the live view of the demo clip"
  "$PYTHON" tests/system/look.py "http://$ADDRESS:$GATEWAY_PORT" "$HOLDERS/operator/operator.token" ||
    die "the live view shows no boxes"
  eventually 60 "the gateway's metrics" gateway_is_scraped
  # It shares the machine with all that follows, which is measured.
  docker compose stop --timeout 30 gateway >/dev/null 2>&1
  [ "$(docker inspect --format '{{.State.ExitCode}}' "$(docker compose ps --all --quiet gateway)")" = 0 ] ||
    die "SIGTERM did not end the gateway well"
}

stream_every_placement() {
  local placement
  for placement in full backbone transformer workstation; do
    say "the clip through $placement"
    as client detect --placement "$placement" >"$ANSWERS" || die "detect failed"
    "$PYTHON" tests/system/count.py "$FRAMES" "$placement" <"$ANSWERS" || die "wrong answers"
  done
}

all_targets_up() { [ "$(query 'count(up == 1)')" = "5 " ]; }
dashboard_answered() {
  "$PYTHON" tests/system/dashboard.py "$PROMETHEUS" deploy/grafana/dashboards/tandem.json
}
frames_flow() { query "sum(rate(tandem_frames_total{job=\"orchestrator\"}[1m])) > 0" | grep -q .; }
alert_is() { query "ALERTS{alertname=\"TandemStageDown\",alertstate=\"$1\"}" | grep -q .; }
no_alert() { ! query 'ALERTS{alertname="TandemStageDown"}' | grep -q .; }

check_metrics() {
  say "what Prometheus sees"
  eventually 60 "every target up" all_targets_up
  query up
  eventually 60 "rate(tandem_frames_total[1m]) > 0" frames_flow
  query 'rate(tandem_frames_total{job="orchestrator"}[1m])'
  dashboard_answered || die "the dashboard asks what Prometheus cannot answer"
}

lose_a_stage() {
  local detecting code
  say "the workstation's transformer stops under a stream"
  : >"$ANSWERS"
  as client detect >"$ANSWERS" &
  detecting=$!
  eventually 60 "the first answers" test -s "$ANSWERS"
  docker compose stop --timeout 30 transformer >/dev/null 2>&1
  code=$(docker inspect --format '{{.State.ExitCode}}' \
    "$(docker compose ps --all --quiet transformer)")
  echo "SIGTERM: it exited $code"
  [ "$code" = 0 ] || die "SIGTERM did not end it well"
  wait "$detecting" || true
  "$PYTHON" tests/system/count.py "$FRAMES" full backbone transformer workstation <"$ANSWERS" ||
    die "frames without detections"
  eventually 60 "the alert" alert_is pending
  query 'ALERTS{alertname="TandemStageDown"}'
  say "without it, streams that leave the placement to the server go on"
  as client detect >"$ANSWERS" || die "detect failed"
  "$PYTHON" tests/system/count.py "$FRAMES" full transformer <"$ANSWERS" || die "wrong answers"
}

get_it_back() {
  say "it comes back"
  docker compose start transformer >/dev/null 2>&1
  eventually 60 "the alert's end" no_alert
  as client detect --placement backbone >"$ANSWERS" || die "detect failed"
  "$PYTHON" tests/system/count.py "$FRAMES" backbone <"$ANSWERS" || die "wrong answers"
}

# How many serve; nothing, and the command's own sentence, while there is no status.
transformers() {
  local status
  status=$(as operator "$PYTHON" -m tandem status --server "$ADDRESS:50050" --json) || return
  "$PYTHON" -c "import json, sys
print(sum(each['healthy'] and (each['node'], each['stage']) == ('workstation', 'transformer')
          for each in json.loads(sys.argv[1])['stages']))" "$status"
}
there_are() { [ "$(transformers)" = "$1" ]; }
all_of_them_serve() {
  [ "$(query "count(rate(tandem_frames_total{job=\"transformer\",node=\"workstation\"}[15s]) > 0)")" = "$1 " ]
}
scale() {
  docker compose up --detach --no-deps --no-recreate --scale "transformer=$1" transformer >/dev/null 2>&1 ||
    die "cannot scale"
}

scale_under_load() {
  local streaming number
  say "two clients, while the workstation's transformers are scaled to 3, to 4 and to 1"
  rm -f "$ANSWERS.stop"
  as client "$PYTHON" tests/system/steady.py "$ADDRESS:50050" backbone 2 "$ANSWERS.stop" &
  streaming=$!
  for number in 3 4; do
    scale "$number"
    eventually 60 "$number transformers" there_are "$number"
    echo "[${SECONDS}s] $number transformers"
  done
  eventually 60 "frames through all of them" all_of_them_serve 4
  as operator "$PYTHON" -m tandem status --server "$ADDRESS:50050"
  scale 1
  eventually 60 "one transformer" there_are 1
  echo "[${SECONDS}s] 1 transformer"
  sleep 5
  touch "$ANSWERS.stop"
  wait "$streaming" || die "frames were lost"
  rm -f "$ANSWERS.stop"
}

ANSWERS=$(mktemp)
HOLDERS=$(mktemp --directory)
trap take_down EXIT
FRAMES=$("$PYTHON" -c "import cv2, sys
print(int(cv2.VideoCapture(sys.argv[1]).get(cv2.CAP_PROP_FRAME_COUNT)))" "$CLIP")

build
bring_up
check_certificates
check_second_start
check_prometheus_files
look_at_the_live_view
stream_every_placement
check_metrics
lose_a_stage
get_it_back
scale_under_load

say "down"
take_down
trap - EXIT
[ -z "$(left_behind)" ] || die "left behind: $(left_behind)"
say "compose.sh passed; nothing is left"
