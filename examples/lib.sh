# Functions that the examples share. Each example sources this file.
#
# Everything lies in one temporary folder, $run. Every server listens on 127.0.0.1, at a port that was free, and is
# stopped by its process id when the example ends, however it ends.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=${BIN:-$top/target/debug}
run=$(mktemp -d "${TMPDIR:-/tmp}/lockstep-example-XXXXXX")
port=$((20000 + RANDOM % 12000))
pids=()
names=()
failed=1

# --- processes ---

# start NAME COMMAND...: runs a server in the background; its output goes to $run/NAME.log.
start() {
  local name=$1
  shift
  "$@" > "$run/$name.log" 2>&1 &
  pids+=("$!")
  names+=("$name")
}

# Stops the servers, the newest first, and waits for each. A server that takes longer than 15 seconds is killed.
stop_all() {
  local at pid tries
  for ((at = ${#pids[@]} - 1; at >= 0; at--)); do
    pid=${pids[at]}
    kill "$pid" 2> /dev/null || continue
    for ((tries = 0; tries < 150; tries++)); do
      kill -0 "$pid" 2> /dev/null || break
      sleep 0.1
    done
    kill -9 "$pid" 2> /dev/null || true
    wait "$pid" 2> /dev/null || true
  done
}

clean_up() {
  trap - EXIT
  stop_all
  if [ "$failed" = 0 ]; then
    rm -rf "$run"
  else
    echo "The logs are in $run; delete the folder when you are done." >&2
  fi
  exit "$failed"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

say() {
  printf '%s\n' "$*"
}

fail() {
  printf 'FAILED: %s\n' "$*" >&2
  exit 1
}

# succeed TEXT: the last line of an example. With STAY=1 its servers go on until Ctrl-C.
succeed() {
  failed=0
  say "OK: $*"
  if [ -n "${STAY:-}" ]; then
    say 'Everything keeps running. Press Ctrl-C to stop it.'
    while true; do sleep 1; done
  fi
}

# need PROGRAM...: the programs that the example calls.
need() {
  local program
  for program in "$@"; do
    command -v "$program" > /dev/null || fail "$program is not installed"
  done
}

# listens PORT: whether a server takes connections at a port of 127.0.0.1.
listens() {
  (: < "/dev/tcp/127.0.0.1/$1") 2> /dev/null
}

# Sets $port to the next port of 127.0.0.1 that nobody listens on. They are below those that Linux gives to clients.
free_port() {
  ((++port))
  while listens "$port"; do ((++port)); done
}

# eventually SECONDS WHAT COMMAND...: repeats a command until it succeeds. Fails at once when a server has ended.
eventually() {
  local seconds=$1 end=$((SECONDS + $1)) what=$2 at
  shift 2
  until "$@" > /dev/null 2>&1; do
    for at in "${!pids[@]}"; do
      kill -0 "${pids[at]}" 2> /dev/null || fail "${names[at]} has ended: $(tail -n 5 "$run/${names[at]}.log")"
    done
    ((SECONDS < end)) || fail "$what: not after $seconds seconds"
    sleep 0.1
  done
}

# --- Lockstep ---

# Where the sidecar of each site answers /readyz.
declare -A health=()

# The two services that all sites share. DYNAMODB_ENDPOINT and KINESIS_ENDPOINT name servers that run already; without
# them, the emulators of `[embedded]` are started in a process of their own.
start_backend() {
  if [ -z "${DYNAMODB_ENDPOINT:-}${KINESIS_ENDPOINT:-}" ]; then
    start emulators "$bin/examples/shared-emulators" "$run/aws"
    eventually 20 'the emulators listen' grep -q '^KINESIS_ENDPOINT=' "$run/emulators.log"
    eval "$(grep -E '^(DYNAMODB|KINESIS)_ENDPOINT=http://127\.0\.0\.1:[0-9]+$' "$run/emulators.log")"
  fi
  [ -n "${DYNAMODB_ENDPOINT:-}" ] && [ -n "${KINESIS_ENDPOINT:-}" ] ||
    fail 'name both DYNAMODB_ENDPOINT and KINESIS_ENDPOINT, or neither'
  mkdir -p "$run/blobs"
}

# start_sidecar SITE PEER SECTIONS: writes the configuration of a site and starts its sidecar. Each run has its own
# names of tables and streams, because DYNAMODB_ENDPOINT may name a server that keeps its data.
start_sidecar() {
  local site=$1 peer=$2 sections=$3 prefix=example-${run##*-}
  free_port
  mkdir -p "$run/$site"
  cat > "$run/$site/lockstep.toml" <<TOML
site = "$site"
node = "$site-0"
sites = ["muc-1", "ber-1"]
root = "$run/$site/git"
state = "$run/$site/git/.lockstep"

[api]
socket = "$run/$site/run/api.sock"

[health]
listen = "127.0.0.1:$port"

[refdb]
prefix = "$prefix"
endpoint = "$DYNAMODB_ENDPOINT"

[eventlog]
prefix = "$prefix"
endpoint = "$KINESIS_ENDPOINT"
poll_interval = "250ms"

[blobs]
url = "file://$run/blobs"

[peers.$peer]
socket = "$run/$peer/run/api.sock"

[telemetry]
log_format = "text"

$sections
TOML
  start "sidecar-$site" "$bin/lockstep" run --config "$run/$site/lockstep.toml"
  health[$site]=127.0.0.1:$port
}

# wait_ready SITE: until the sidecar takes pushes.
wait_ready() {
  eventually 60 "the sidecar of $1 is ready" curl -sf "http://${health[$1]}/readyz"
}

# lockstep_at SITE COMMAND...: the command line, against the sidecar of a site.
lockstep_at() {
  local site=$1
  shift
  "$bin/lockstep" "$@" --socket "$run/$site/run/api.sock"
}

# --- git ---

# Nothing of the machine's own git configuration, and none of the caller's settings for Lockstep.
export HOME=$run GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0
export GIT_AUTHOR_NAME=Ada GIT_AUTHOR_EMAIL=ada@example.com GIT_COMMITTER_NAME=Ada GIT_COMMITTER_EMAIL=ada@example.com
unset "${!LOCKSTEP_@}" GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE

# shows URL REF VALUE: whether a server shows a value of a ref.
shows() {
  [ "$(git ls-remote "$1" "$2" | cut -f 1)" = "$3" ]
}
