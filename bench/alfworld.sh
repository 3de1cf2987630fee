#!/bin/sh
# Everything that is measured on ALFWorld: records the demonstrations and the test states, then the benches on them.
#
#     sh bench/alfworld.sh DIR            DIR holds train/ and valid_seen/ with ALFWorld's games
#
# Takes hours on two cores. Stopped, it goes on where it was: recorded episodes and given answers are kept in bench/.work/.
set -eu
games=${1:?"Name the folder with ALFWorld's games: sh bench/alfworld.sh DIR"}
bin=${VENV:-.venv}/bin
db=bench/.work/alfworld.db
mkdir -p bench/.work
export OMP_WAIT_POLICY=passive

world="--env alfworld --tasks $games"
student="--student torch:smollm2-135m --student-option template=plain --style transcript --history 6 --k 3 --window 1"
student="$student --retrieval per-step --teacher expert --price-teacher-as claude-sonnet-5-5 --price-student-as gpt-4.1-mini"

"$bin/python" bench/alfworld_speed.py "$games"
"$bin/potstill" distill context $world --split train --n 330 --seed 1 --teacher expert --run demos --db "$db"
"$bin/potstill" distill context $world --split valid_seen --teacher expert --run states --db "$db"
"$bin/python" bench/agreement.py --db "$db" --name alfworld_agreement --seeds 2
"$bin/python" bench/agreement.py --db "$db" --name alfworld_agreement_gemma --model torch:gemma3-270m
"$bin/python" bench/sweep.py --db "$db" --name context_sweep
games_12="--split valid_seen --n 12 --seeds 2"
games_36="--split valid_seen --n 36 --seed 10"
likelihood="--signal likelihood --threshold 0.5 --arm context+cascade,random-mix"
"$bin/potstill" run $world $student --db "$db" --run arms $games_12 --samples 5 \
  --arm context,context+cascade,random-mix,zero-shot,random-demos,cascade,copy-nearest,teacher
"$bin/potstill" run $world $student --db "$db" --run likelihood $games_12 $likelihood
"$bin/potstill" run $world $student --db "$db" --run likelihood2 $games_36 $likelihood
"$bin/potstill" run $world $student --db "$db" --run rest $games_36 --arm copy-nearest,teacher
"$bin/python" bench/arms.py --db "$db" --name alfworld_arms \
  --run arms --run rest --run likelihood=likelihood --run likelihood2=likelihood
"$bin/python" bench/tables.py
