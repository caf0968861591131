# What every request on a node starts with: where things are, and who a process is.
# Plain POSIX sh; dash, bash and busybox run it in the tests. Names begin with w_ or are WHIMBREL's own.

if [ -z "${HOME:-}" ] || [ ! -w "$HOME" ]; then
  HOME=/tmp/whimbrel-home-$(id -u)
  export HOME
fi
w_spool=$HOME/.whimbrel
w_jobs=$w_spool/jobs
w_work=$HOME/whimbrel_workdir

# The places themselves; asked for by whoever writes.
w_places() {
  [ -d "$w_jobs" ] || (umask 077 && mkdir -p "$w_jobs") || return 1
  [ -d "$w_work" ] || mkdir -p "$w_work" || return 1
  [ -e "$HOME/sky_workdir" ] || ln -s whimbrel_workdir "$HOME/sky_workdir" 2>/dev/null
  return 0
}

w_boot=-
{ IFS= read -r w_boot </proc/sys/kernel/random/boot_id; } 2>/dev/null

# w_stat PID: sets w_state, w_group and w_start (clock ticks since boot) from /proc; fails where there is none.
w_stat() {
  w_state= w_group= w_start=-
  { IFS= read -r w_line <"/proc/$1/stat"; } 2>/dev/null || return 1
  w_stat_fields ${w_line##*) }
}
w_stat_fields() { w_state=$1 w_group=$3 w_start=${20}; }

# w_alive PID START BOOT: whether that very process lives. A process is never known by its pid alone.
w_alive() {
  [ -n "${1:-}" ] && [ "${3:-}" = "$w_boot" ] || return 1
  if [ "${2:-}" = - ]; then kill -0 "$1" 2>/dev/null; return; fi
  w_stat "$1" && [ "$w_state" != Z ] && [ "$w_start" = "$2" ]
}

# A short pause: 50 ms where sleep takes fractions, else a second. w_ticks is how many of them make a second.
w_tick=0.05 w_ticks=20
w_pause() {
  sleep "$w_tick" 2>/dev/null && return
  w_tick=1 w_ticks=1
  sleep 1
}

# w_size FILE: sets size. Without reading the file: wc of busybox would.
w_size() {
  size=0
  [ -f "$1" ] || return 0
  w_size_field $(ls -ln "$1" 2>/dev/null)
}
w_size_field() { size=${5:-0}; }
