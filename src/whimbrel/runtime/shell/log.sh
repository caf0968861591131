# The log of a job from an offset on. stdout: its bytes and nothing else. stderr: an empty line every 5 seconds as
# a sign of life, and the job's state at the end. Needs state.sh.

# w_read ID OFFSET LIMIT
w_read() {
  d=$w_jobs/$1
  if [ -f "$d/log" ]; then
    if [ "$3" = - ]; then tail -c "+$(($2 + 1))" "$d/log"; else tail -c "+$(($2 + 1))" "$d/log" | head -c "$3"; fi
  fi
  w_state_of "$1" >&2
}

# w_follow ID OFFSET: until the job has ended. Leaves nothing running when the reader has gone.
w_follow() {
  d=$w_jobs/$1
  w_pid=
  if [ -d "$d/started" ]; then
    n=0
    until [ -s "$d/pid" ] || [ -s "$d/exit" ] || [ "$n" -ge "$w_ticks" ]; do w_pause; n=$((n + 1)); done
    { read -r w_pid w_t w_b w_when <"$d/pid"; } 2>/dev/null
  fi
  if [ -s "$d/exit" ] || ! w_alive "$w_pid" "$w_t" "$w_b"; then
    w_read "$1" "$2" -
    return
  fi
  case $(tail --version 2>/dev/null) in
    *GNU*) if [ -p "$d/alive" ]; then w_follow_tail "$2"; else w_follow_poll "$2"; fi ;;
    *) w_follow_poll "$2" ;;
  esac
  w_state_of "$1" >&2
}

# GNU tail wakes by inotify, and ends by itself after the process that it is told to watch: our own reader of the
# runner's fifo. The third process gives signs of life, and ends the others when nobody reads us any more or when
# the runner was killed between two looks.
w_follow_tail() {
  { read -r _ <"$d/alive"; } 2>/dev/null &
  x=$!
  tail -c "+$(($1 + 1))" -s 0.03 --pid="$x" -f "$d/log" 2>/dev/null &
  t=$!
  (
    trap '' PIPE
    trap 'kill "$s" 2>/dev/null; exit 0' TERM
    while :; do
      sleep 5 >/dev/null 2>&1 &
      s=$!
      wait "$s"
      echo >&2 || { kill "$t" "$x"; exit 0; }
      w_alive "$w_pid" "$w_t" "$w_b" || { kill "$x"; exit 0; }
    done
  ) >/dev/null &
  h=$!
  wait "$x" 2>/dev/null
  wait "$t" 2>/dev/null
  kill "$h" 2>/dev/null
  wait "$h" 2>/dev/null
  return 0
}

# Everywhere else: look at the size, 20 times a second.
w_follow_poll() {
  trap '' PIPE
  pos=$1 quiet=0 end=0
  while :; do
    w_alive "$w_pid" "$w_t" "$w_b" && [ ! -s "$d/exit" ] || end=1
    w_size "$d/log"
    if [ "$size" -gt "$pos" ]; then
      tail -c "+$((pos + 1))" "$d/log" | head -c "$((size - pos))" || return 0
      pos=$size
      continue
    fi
    [ "$end" = 0 ] || return 0
    quiet=$((quiet + 1))
    [ "$((quiet % (5 * w_ticks)))" != 0 ] || echo >&2 || return 0
    w_pause
  done
}
