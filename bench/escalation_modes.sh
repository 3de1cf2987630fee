#!/bin/sh
# The six ways to escalate as whole BabyAI episodes, each beside a random mix with its share of teacher steps.
#
#     sh bench/escalation_modes.sh
#
# Ten minutes on one core. Stopped, it goes on where it was: recorded episodes are kept in bench/.work/.
set -eu
bin=${VENV:-.venv}/bin
db=bench/.work/modes.db
mkdir -p bench/.work
export OMP_WAIT_POLICY=passive

world="--env minigrid --option level=PutNextLocal --price-teacher-as claude-sonnet-5-5 --teacher expert --db $db"
arms=
for mode in step sticky restart compact task teacher-first; do
  arms="$arms${arms:+,}context+cascade@$mode,random-mix@$mode"
done

"$bin/potstill" distill context $world --n 60 --run teacher
"$bin/potstill" run $world --n 20 --arm "$arms" --run modes --max-steps 10 --price-student-as gpt-4.1-mini \
  --student torch:smollm2-135m --student-option template=plain --style transcript --k 3 \
  --samples 3 --temperature 1.0 --sampling together --keep-steps 2 --patience 2
"$bin/python" bench/arms.py --db "$db" --name escalation_modes --run modes
"$bin/python" bench/tables.py
