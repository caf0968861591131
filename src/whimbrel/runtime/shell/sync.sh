# The node's memory of what was put into a directory: the manifest, the paths that it has, and a stamp that is newer
# than each of them. Needs files.sh.

# w_known TARGET KEY: stdout: the manifest of last time. stderr: whether there is a tar, and what is no longer as it
# was put there.
w_known() {
  w_resolve "$1"
  m=$w_spool/sync/$2
  if w_can_tar; then echo "can tar" >&2; fi
  [ -f "$m.json" ] && [ -f "$m.paths" ] || return 0
  cat "$m.json"
  if [ ! -d "$w_to" ]; then echo "gone ." >&2; return 0; fi
  cd "$w_to" || return 1
  while IFS= read -r p; do
    if [ -h "./$p" ]; then :
    elif [ ! -e "./$p" ]; then echo "gone $p"
    elif [ -f "./$p" ] && [ "./$p" -nt "$m.stamp" ]; then echo "changed $p"
    fi
  done <"$m.paths" >&2
}

# w_begin TARGET: go there, ready to take.
w_begin() {
  w_places && w_resolve "$1" && mkdir -p "$w_to" "$w_spool/sync" && cd "$w_to" || return 1
  rm -rf ./.whimbrel-sync-*
}

# What was put here once and is not wanted any more. A directory that holds something else stays.
w_drop() {
  for p in "$@"; do
    if [ -d "./$p" ] && [ ! -h "./$p" ]; then rmdir "./$p" 2>/dev/null; else rm -f "./$p"; fi
  done
  return 0
}

# w_end KEY NONCE: everything has come; remember it.
w_end() {
  m=$w_spool/sync/$1
  t=.whimbrel-sync-$2
  [ -f "$t/end" ] || { echo "the files did not come completely" >&2; return 1; }
  rm -f "$m.json"
  mv -f "$t/paths" "$m.paths" && : >"$m.stamp" && mv -f "$t/json" "$m.json" && rm -rf "$t"
}
