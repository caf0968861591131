# `cp` both ways. Needs files.sh.

# w_copy_in PATH NONCE UNPACK: stdin holds one file or directory under its own name. As cp -r does: into a directory
# that is there (or that PATH says it is, by a slash at its end), else under the new name.
w_copy_in() {
  w_places || return 1
  w_resolve "$1"
  case $1 in
    */) into=1 ;;
    *) into=; [ -d "$w_to" ] && into=1 ;;
  esac
  if [ -n "$into" ]; then
    mkdir -p "$w_to" && cd "$w_to" && "$3"
    return
  fi
  above=$(dirname "$w_to")
  t=.whimbrel-cp-$2
  mkdir -p "$above/$t" && cd "$above/$t" && "$3"
  code=$?
  cd "$above" || return 1
  if [ "$code" = 0 ]; then
    for each in "$t"/* "$t"/.[!.]*; do
      [ -e "$each" ] || [ -h "$each" ] || continue
      mv -f "$each" "$w_to" || code=1
    done
  fi
  rm -rf "$t"
  return "$code"
}

# w_copy_out PATH: stderr says first how it comes ("how tar" or "how plain"); 44 when there is nothing, 45 for devices
# and pipes, which may have no end.
w_copy_out() {
  w_resolve "$1"
  while :; do case $w_to in /) break ;; */) w_to=${w_to%/} ;; *) break ;; esac; done
  [ -e "$w_to" ] || [ -h "$w_to" ] || return 44
  [ -f "$w_to" ] || [ -d "$w_to" ] || [ -h "$w_to" ] || return 45
  above=$(dirname "$w_to") name=$(basename "$w_to")
  cd "$above" || return 1
  if w_can_tar; then
    echo "how tar" >&2
    tar -c -f - "./$name"
    return
  fi
  echo "how plain" >&2
  find "./$name" -print | while IFS= read -r p; do w_pack_plain "${p#./}"; done
  echo "end 0 0 -"
}

w_pack_plain() {
  mode=644
  [ ! -x "./$1" ] || mode=755
  if [ -h "./$1" ]; then printf 'link 0 0 %s\n%s\n' "$1" "$(readlink "./$1")"
  elif [ -d "./$1" ]; then printf 'dir %s 0 %s\n' "$mode" "$1"
  elif [ -f "./$1" ]; then
    w_size "./$1"
    printf 'file %s %s %s\n' "$mode" "$size" "$1"
    head -c "$size" "./$1"
  fi
}
