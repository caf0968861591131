# Paths and the ways in and out that sync and copy share.

# w_resolve PATH: sets w_to; relative paths are in the working directory of tasks.
w_resolve() {
  case $1 in
    "~") w_to=$HOME ;;
    "~/"*) w_to=$HOME/${1#"~/"} ;;
    /*) w_to=$1 ;;
    . | "") w_to=$w_work ;;
    *) w_to=$w_work/$1 ;;
  esac
}

w_can_tar() {
  command -v tar >/dev/null 2>&1
}

# w_take BYTES: exactly so many bytes of stdin to stdout. dd reads no more than it is asked for, but may read less.
w_take() {
  left=$1
  while [ "$left" -gt 0 ]; do
    block=$left
    [ "$block" -le 65536 ] || block=65536
    dd bs="$block" count=1 of="$w_part" 2>/dev/null || return 1
    w_size "$w_part"
    [ "$size" -gt 0 ] || return 1
    cat "$w_part"
    left=$((left - size))
  done
}

# Where there is no tar. stdin: "dir MODE 0 PATH", "file MODE SIZE PATH" and its bytes, "link 0 0 PATH" and a line
# with the target, at last "end 0 0 -". Paths are relative to the current directory and hold no newline.
w_unpack_plain() {
  w_part=$w_spool/part.$$
  while IFS=' ' read -r kind mode count path; do
    case $kind in
      dir) [ ! -d "./$path" ] && { rm -f "./$path"; mkdir -p "./$path" || break; }; chmod "$mode" "./$path" ;;
      file) rm -f "./$path"; w_take "$count" >"./$path" || break; chmod "$mode" "./$path" ;;
      link) IFS= read -r to || break; rm -f "./$path"; ln -s "$to" "./$path" || break ;;
      end) rm -f "$w_part"; return 0 ;;
      *) break ;;
    esac
  done
  rm -f "$w_part"
  return 1
}

# stdin: a tar archive whose times do not matter and whose owners do not exist here.
w_unpack_tar() {
  tar -x -m -o -f -
}
