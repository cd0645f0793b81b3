#!/bin/bash
# Two nodes that train one model, with the recipe that runs on a laptop: runtime.strategy=auto finds Slurm's step.
#
#   sbatch clusters/slurm.sh RECIPE [KEY=VALUE ...]      (sbatch --test-only says whether the cluster could run it)
#
# output_dir, the rows and the checkpoint have to be on a disk that all nodes share. Two minutes before the time is over
# the state is saved and the job goes into the queue again; a pre-empted one does the same. It goes on by itself.
#SBATCH --job-name=tfft
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
##SBATCH --gpus-per-task=1
set -euo pipefail

recipe=${1:?usage: sbatch slurm.sh RECIPE [KEY=VALUE ...]}
shift

status=0
# Workers are counted in the order of the nodes (block); where one fails, the others cannot go on.
srun --kill-on-bad-exit=1 --distribution=block python -m tfft.fit --recipe "$recipe" --resume "$@" || status=$?
if [[ $status == 143 ]]; then # ended by SIGTERM, its state saved
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
