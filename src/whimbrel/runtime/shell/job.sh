# Preparing and starting a job. Its script starts at most once: `started` is a lock that is never given back.

# w_prepare ID ENVLINES BYTES: stdin is ENVLINES lines of exports, then BYTES bytes of script.
w_prepare() {
  w_places || return 1
  d=$w_jobs/$1
  if [ -d "$d/started" ]; then cat >/dev/null; return 0; fi
  (
    umask 077
    mkdir -p "$d" || exit 1
    n=$2
    while [ "$n" -gt 0 ] && IFS= read -r l; do printf '%s\n' "$l"; n=$((n - 1)); done >"$d/env.$$"
    cat >"$d/script.$$"
    # A stream that broke must not leave half a script to be run.
    [ "$n" = 0 ] && [ "$(wc -c <"$d/script.$$")" -eq "$3" ] || { rm -f "$d/env.$$" "$d/script.$$"; exit 3; }
    mv -f "$d/env.$$" "$d/env" && mv -f "$d/script.$$" "$d/script"
  )
}

# w_start ID: comes back when the job has been started, by us or before. Needs w_runner, the text of runner.sh.
w_start() {
  d=$w_jobs/$1
  [ -d "$d/started" ] && return 0
  [ -f "$d/script" ] || return 44
  r=$w_spool/runner-$w_runner_id
  [ -f "$r" ] || { printf '%s\n' "$w_runner" >"$r.$$" && mv -f "$r.$$" "$r"; } || return 1
  : >>"$d/log"
  if command -v setsid >/dev/null 2>&1; then
    sh -c 'setsid sh "$1" "$2" "$$"; :' sh "$r" "$d"
  else
    sh -c 'trap "" HUP; sh "$1" "$2" "$$"; :' sh "$r" "$d"
  fi </dev/null >/dev/null 2>&1
  [ -d "$d/started" ]
}
