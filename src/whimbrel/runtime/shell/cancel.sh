# Ending a job: TERM to all its processes, KILL after the grace. Needs state.sh.

# All processes of job directory $1: by the mark in their environment (which finds daemons too) where there is a
# /proc; the process group of the leader is signalled besides. grep of busybox does not look behind a NUL.
w_members() {
  if printf 'a\0b\n' | grep -qF b; then
    grep -lF "WHIMBREL_JOB_DIR=$1/" /proc/[0-9]*/environ 2>/dev/null
  else
    for f in /proc/[0-9]*/environ; do
      { tr '\0' '\n' <"$f" | grep -qxF "WHIMBREL_JOB_DIR=$1/" && echo "$f"; } 2>/dev/null
    done
  fi | while IFS=/ read -r _ _ p _; do
    w_stat "$p" && [ "$w_state" != Z ] && echo "$p"
  done
}

w_signal() {
  l=
  { read -r l <"$d/leader"; } 2>/dev/null
  if [ -n "$l" ] && w_stat "$l" && [ "$w_group" = "$l" ]; then kill "-$1" -- "-$l" 2>/dev/null; fi
  [ -n "$l" ] && [ ! -d "/proc/$$" ] && kill "-$1" "$l" 2>/dev/null
  for m in $(w_members "$d"); do [ "$m" = "$$" ] || kill "-$1" "$m" 2>/dev/null; done
  return 0
}

# w_until TICKS: waits until the runner has ended and no process of the job is left.
w_until() {
  n=0
  while :; do
    if [ -s "$d/exit" ] || ! w_alive "$w_pid" "$w_t" "$w_b"; then
      [ -n "$(w_members "$d")" ] || return 0
    fi
    [ "$n" -lt "$1" ] || return 1
    w_pause
    n=$((n + 1))
  done
}

# w_cancel ID GRACE: a job that has not been started will never be.
w_cancel() {
  w_places || return 1
  d=$w_jobs/$1
  mkdir -p "$d" || return 1
  [ -s "$d/exit" ] || : >"$d/cancel"
  if mkdir "$d/started" 2>/dev/null; then
    : >"$d/env"
    printf '143 %s\n' "$(date +%s)" >"$d/exit.new" && mv -f "$d/exit.new" "$d/exit"
  else
    n=0
    until [ -s "$d/pid" ] || [ -s "$d/exit" ] || [ "$n" -ge "$w_ticks" ]; do w_pause; n=$((n + 1)); done
    w_pid=
    { read -r w_pid w_t w_b w_when <"$d/pid"; } 2>/dev/null
    w_signal TERM
    if ! w_until "$(($2 * w_ticks))"; then
      i=0
      until [ "$i" -ge 10 ]; do
        w_signal KILL
        w_until 4 && break
        i=$((i + 1))
      done
    fi
    if [ ! -s "$d/exit" ]; then
      w_alive "$w_pid" "$w_t" "$w_b" && kill -KILL "$w_pid"
      printf '137 %s\n' "$(date +%s)" >"$d/exit.new" && mv -f "$d/exit.new" "$d/exit"
    fi
  fi
  w_state_of "$1"
}
