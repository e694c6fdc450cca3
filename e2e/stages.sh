#!/usr/bin/env bash
# stages.sh STAGE…: makes targets of the Makefile, until one fails, and ends with a table of what each of them took and
# how busy the machine's processors were meanwhile, whoever kept them so. A stage is a target; or several, joined by
# `+`, that are made side by side: the output of each comes whole when it has ended, and last that of those that failed.
# In place of one of these may stand several that are made one after the other, joined by `,`.
# A stage may write into the file that TIERCE_HARNESS names where a harness lies for those that run side by side after it.
# Programs add their parts to the file that TIERCE_STAGES names. Where that is set by the caller, its table comes later,
# from the last call: `stages.sh --table STAGE…`.
set -uo pipefail
# Each job in a process group of its own, which does not ignore Ctrl-C as jobs of a script do, and is ended with this.
set -m
table=yes
if [ -n "${TIERCE_STAGES:-}" ] && [ "${1:-}" != --table ]; then
  table=
fi
[ "${1:-}" != --table ] || shift
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'end; exit 130' INT
trap 'end; exit 143' TERM HUP
: "${TIERCE_STAGES:=$folder/stages}"
TIERCE_HARNESS=$folder/harness
export TIERCE_STAGES TIERCE_HARNESS

end() {
  local job
  for job in $(jobs -p); do
    kill -TERM -- "-$job" 2>/dev/null
  done
  wait
}

# What the processors did since the machine started: busy and idle, in hundredths of a second.
processors() {
  local user nice system idle waiting hard soft stolen
  read -r _ user nice system idle waiting hard soft stolen _ </proc/stat
  echo $((user + nice + system + hard + soft + stolen)) $((idle + waiting))
}

# note NAME SECONDS BUSY IDLE: a line for the table, of what began then.
note() {
  local busy idle
  read -r busy idle <<<"$(processors)"
  busy=$((busy - $3)) idle=$((idle - $4))
  printf '%s\t%s\t%s\n' $((SECONDS - $2)) $((busy * 100 / (busy + idle + 1))) "$1"
}

# make_one TARGET [VARIABLE=VALUE]: makes a target. It ends with the shell that makes it: beside others, with its lane, which `end` ends.
make_one() {
  setpriv --pdeathsig TERM make --no-print-directory "$@" </dev/null
}

# Makes targets one after the other, beside others: the output of one that failed stays in its file.
lane() {
  local target begun status=0 harness=()
  [ ! -s "$TIERCE_HARNESS" ] || harness=("E2E=$(cat "$TIERCE_HARNESS")")
  for target; do
    begun="$SECONDS $(processors)"
    TIERCE_STAGES=$folder/$target.parts make_one "$target" "${harness[@]}" >"$folder/$target.log" 2>&1 || status=$?
    if [ $status -ne 0 ]; then
      note "  $target FAILED" $begun >"$folder/$target.line"
      touch "$folder/$target.failed"
      return $status
    fi
    note "  $target" $begun >"$folder/$target.line"
    flock "$folder" sh -c 'echo "--- $1"; cat "$2"' sh "$target" "$folder/$target.log"
  done
}

# Makes the lanes of a stage side by side.
beside() {
  local lane target lanes=() status=0
  if [ "$(tr ', ' '\n\n' <<<"$*" | sort | uniq -d)" ]; then
    echo "a target stands twice in one stage: $*" >&2
    return 1
  fi
  echo "side by side, the output of each when it has ended: $*"
  for lane; do
    lane ${lane//,/ } &
    lanes+=($!)
  done
  for lane in "${lanes[@]}"; do
    wait "$lane" || status=$?
  done
  for target in ${*//,/ }; do
    [ ! -e "$folder/$target.failed" ] || { echo "--- $target FAILED" && cat "$folder/$target.log"; }
    [ ! -e "$folder/$target.line" ] || cat "$folder/$target.line" >>"$TIERCE_STAGES"
    [ ! -e "$folder/$target.parts" ] || sed -E 's/\t  ([^\t]*)$/\t    \1/' "$folder/$target.parts" >>"$TIERCE_STAGES"
  done
  return $status
}

status=0
for stage in "$@"; do
  begun="$SECONDS $(processors)"
  if [[ $stage == *+* ]]; then
    beside ${stage//+/ } || status=$?
  else
    make_one "$stage" || status=$?
  fi
  note "${stage//+/ + }$([ $status -eq 0 ] || echo ' FAILED')" $begun >>"$TIERCE_STAGES"
  [ $status -eq 0 ] || break
done

if [ -n "$table" ] || [ $status -ne 0 ]; then
  echo
  # The parts of a stage come before it in the file, and behind it in the table.
  awk -F '\t' '
    function row(name, seconds, busy) { return sprintf("%-50s %7s %5s\n", name, seconds, busy == "" ? "" : busy " %") }
    BEGIN { printf "%s", row("suite", "seconds", "busy") }
    $3 ~ /^  / { parts = parts row($3, $1, $2); next }
    { printf "%s%s", row($3, $1, $2), parts; parts = ""; sum += $1 }
    END { printf "%s%s", parts, row("together", sum, "") }' "$TIERCE_STAGES"
fi
exit $status
