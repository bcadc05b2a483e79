#!/bin/bash
@directives@
# One element of an array of @count@ jobs without a scheduler of their own. They run in any order,
# on any number of nodes, and again at will: what is done is never done twice.
#   before them, once:  @prepare@
#   these:              @submit@ THIS_SCRIPT
#   after them:         @finalize@
set -euo pipefail
cd @folder@
# What the site needs goes here, such as: module load cuda
TOMODASK=(@tomodask@)
RECIPE=@recipe@

exec "${TOMODASK[@]}" run "$RECIPE" --shard "$@index@/@count@"@run_options@
