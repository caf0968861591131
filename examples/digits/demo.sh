#!/bin/sh
# The main job from nothing: an embedded Kubernetes, two nodes, a real training run, the model brought back.
# Everything lives in a directory of its own and is removed at the end; your kubeconfig is not touched.
set -eu
home=$(mktemp -d "${TMPDIR:-/tmp}/whim-demo.XXXXXX")
export WHIMBREL_HOME="$home/whimbrel" KUBESIM_HOME="$home/kubesim" KUBECONFIG="$home/kubeconfig"
unset XDG_RUNTIME_DIR
clean_up() {
    whim local down -y >/dev/null 2>&1 || true
    whim api stop >/dev/null 2>&1 || true
    rm -rf "$home"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

step() { printf '\n$ %s\n' "$*"; "$@"; }

cd "$(dirname "$0")/../.."
step whim launch -c digits -y examples/digits/task.yaml
step whim status
step whim queue digits
step whim cp digits:model.npz "$home/model.npz"
step whim down -y digits
# The log is still there after down.
accuracy=$(whim logs digits | sed -n 's/.*test accuracy \([0-9.]*\)%.*/\1/p' | tail -n 1)
size=$(wc -c <"$home/model.npz")
printf '\ndemo: test accuracy %s %%, model of %s bytes\n' "${accuracy:-unknown}" "$size"
awk -v accuracy="${accuracy:-0}" 'BEGIN { exit !(accuracy > 95) }' || {
    echo "demo: expected a test accuracy above 95 %" >&2
    exit 1
}
