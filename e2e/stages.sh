#!/usr/bin/env bash
# stages.sh TARGET…: makes these targets of the Makefile one after the other, until one fails, and ends with a table of
# what each of them took. Programs add their parts to the file that TIERCE_STAGES names. Where that is set by the
# caller, its table comes later, from the last call: `stages.sh --table TARGET…`.
set -uo pipefail
table=yes
if [ -n "${TIERCE_STAGES:-}" ] && [ "${1:-}" != --table ]; then
  table=
fi
[ "${1:-}" != --table ] || shift
if [ -z "${TIERCE_STAGES:-}" ]; then
  TIERCE_STAGES=$(mktemp)
  export TIERCE_STAGES
  trap 'rm -f "$TIERCE_STAGES"' EXIT
fi

status=0
for target in "$@"; do
  begun=$SECONDS
  make --no-print-directory "$target" </dev/null
  status=$?
  printf '%s\t%s%s\n' $((SECONDS - begun)) "$target" "$([ $status -eq 0 ] || echo ' FAILED')" >>"$TIERCE_STAGES"
  [ $status -eq 0 ] || break
done

if [ -n "$table" ] || [ $status -ne 0 ]; then
  echo
  echo 'suite                                      seconds'
  # The parts of a stage come before it in the file, and behind it in the table.
  awk -F '\t' '
    $2 ~ /^  / { parts = parts sprintf("%-42s %7d\n", $2, $1); next }
    { printf "%-42s %7d\n%s", $2, $1, parts; parts = ""; sum += $1 }
    END { printf "%s%-42s %7d\n", parts, "together", sum }' "$TIERCE_STAGES"
fi
exit $status
