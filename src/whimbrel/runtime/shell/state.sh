# What is known of jobs, as one line each:
# state ID PREPARED STARTED RUNNING CODE LOST CANCELLED STARTED_AT ENDED_AT LOGBYTES     ("-" where not known)

w_state_of() {
  d=$w_jobs/$1
  p=0 s=0 r=0 c=- lost=0 x=0 t0=- t1=- size=0
  [ -f "$d/script" ] && p=1
  [ -f "$d/cancel" ] && x=1
  if [ -d "$d/started" ]; then
    s=1 w_pid= w_t= w_b= w_when=
    n=0
    # Between the lock and the pid there are microseconds, or a process that died in them.
    until [ -s "$d/pid" ] || [ -s "$d/exit" ] || [ "$n" -ge "$w_ticks" ]; do w_pause; n=$((n + 1)); done
    { read -r w_pid w_t w_b w_when <"$d/pid"; } 2>/dev/null
    t0=${w_when:--}
    w_alive "$w_pid" "$w_t" "$w_b" && r=1
    # The exit code is written before the process ends, so it is read after looking for the process.
    if { read -r c t1 <"$d/exit"; } 2>/dev/null; then r=0; elif [ "$r" = 0 ]; then lost=1; fi
    c=${c:--} t1=${t1:--}
  fi
  w_size "$d/log"
  printf 'state %s %s %s %s %s %s %s %s %s %s\n' "$1" "$p" "$s" "$r" "$c" "$lost" "$x" "$t0" "$t1" "$size"
}
