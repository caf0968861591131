# Runs one job: sh runner DIR PARENT. In a session of its own, so that it outlives whoever asked for it.
# It takes the lock, says who it is, lets the asker go on by ending PARENT (the shell that waits for us in the
# foreground: a process started with & would have SIGINT ignored for good), runs the script, writes the exit code.
# While it lives it holds the fifo `alive` open for writing: who reads from it learns of the end at once, however
# it comes and whether or not anybody reaps us. The fifo goes before we do, so that nobody opens it in vain.
d=$1
exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
mkdir "$d/started" 2>/dev/null || exit 0
w_line= w_boot=- w_start=-
w_take_start() { w_start=${20}; }
{ IFS= read -r w_boot </proc/sys/kernel/random/boot_id; } 2>/dev/null
{ IFS= read -r w_line </proc/$$/stat; } 2>/dev/null && w_take_start ${w_line##*) }
if mkfifo "$d/alive" 2>/dev/null; then exec 8<>"$d/alive"; fi
printf '%s %s %s %s\n' "$$" "$w_start" "$w_boot" "$(date +%s)" >"$d/pid"
trap : TERM INT HUP QUIT
kill -KILL "$2"
w_own=
command -v setsid >/dev/null 2>&1 && w_own=setsid
$w_own sh -c '
w_dir=$1 w_work=$HOME/whimbrel_workdir
exec >>"$w_dir/log" 2>&1
echo $$ >"$w_dir/leader"
WHIMBREL_JOB_DIR=$w_dir/
export WHIMBREL_JOB_DIR
. "$w_dir/env" || exit 126
: >"$w_dir/env"
cd "$w_work" || exit 126
w_shell=bash
if ! command -v bash >/dev/null 2>&1; then
  w_shell=sh
  echo "whimbrel: this node has no bash; the script runs under sh."
fi
if env --default-signal=INT true 2>/dev/null; then exec env --default-signal=INT,QUIT "$w_shell" "$w_dir/script"; fi
exec "$w_shell" "$w_dir/script"
' whimbrel-job "$d" 8>&-
code=$?
: >"$d/env"
printf '%s %s\n' "$code" "$(date +%s)" >"$d/exit.new"
mv -f "$d/exit.new" "$d/exit"
rm -f "$d/alive"
