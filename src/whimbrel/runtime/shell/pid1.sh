# The command of a node's pod: makes the places, then waits, reaping what loses its parent. On TERM it passes the
# signal on to the jobs, gives them a moment to write what they must, and ends; the pod ends with it.
w_places
w_end() {
  trap '' TERM INT
  kill "$w_sleep" 2>/dev/null
  for d in "$w_jobs"/*/; do
    d=${d%/}
    [ -d "$d/started" ] && [ ! -s "$d/exit" ] || continue
    w_signal TERM
  done
  n=0
  while [ "$n" -lt "$((3 * w_ticks))" ]; do
    busy=
    for d in "$w_jobs"/*/; do
      d=${d%/}
      [ -d "$d/started" ] && [ -s "$d/pid" ] && [ ! -s "$d/exit" ] || continue
      { read -r w_pid w_t w_b w_when <"$d/pid"; } 2>/dev/null
      w_alive "$w_pid" "$w_t" "$w_b" && busy=1
    done
    [ -n "$busy" ] || exit 0
    w_pause
    n=$((n + 1))
  done
  exit 0
}
trap w_end TERM INT
echo "whimbrel: this node is ready."
while :; do
  sleep 3600 &
  w_sleep=$!
  wait "$w_sleep"
done
