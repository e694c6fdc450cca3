#!/usr/bin/env bash
# reference.sh compose|archives [--built]: builds a program of that folder that tests ask what a library of others makes of the same input, and
# prints where it is: in the user's cache folder, under a key of what it is made of. It needs Go, and the network once. Where the program is
# missing and can't be built, and with --built where it was not built before, it says why.
set -euo pipefail
name=$1
cd "$(dirname "${BASH_SOURCE[0]}")/$name"
PATH=$PATH:/usr/local/go/bin
key=$(cat go.mod go.sum main.go | sha256sum | cut -c 1-16)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/tierce/references/$name-$key
program=$folder/$name

build() {
  mkdir -p "$folder"
  # What tests are told that come later.
  exec 3>"$folder/why-not"
  if ! command -v go >/dev/null; then
    echo 'Go is missing: https://go.dev/dl' >&3
    return
  fi
  local unfinished
  unfinished=$(mktemp -d "$folder/.build.XXXXXX")
  if CGO_ENABLED=0 GOFLAGS=-buildvcs=false go build -trimpath -o "$unfinished/$name" . 2>"$unfinished/log"; then
    mv "$unfinished/$name" "$program"
    rm -f "$folder/why-not"
  else
    echo "it could not be built: $(tail -n 1 "$unfinished/log")" >&3
  fi
  rm -rf "$unfinished"
}

[ -x "$program" ] || [ "${2:-}" = --built ] || build
if [ -x "$program" ]; then
  echo "$program"
else
  cat "$folder/why-not" >&2 2>/dev/null || echo 'it was not built yet: make setup' >&2
  exit 1
fi
