#!/usr/bin/env bash

#SBATCH -J tomodask-sample_7
#SBATCH -e logs/tomodask-sample_7-%J.err
#SBATCH -o logs/tomodask-sample_7-%J.out
#SBATCH -p cpu
#SBATCH -n 1
#SBATCH --cpus-per-task=16
#SBATCH --mem=60G
#SBATCH -t 04:00:00
#SBATCH --open-mode=append

python -m tomodask.cluster.worker tls://10.0.0.1:8786 --name worker --nthreads 4 --memory-limit 14.90GiB --death-timeout 60 --nworkers 4 --walltime 14400 --protocol tls:// --tls-ca-file tls/certificate.pem --tls-cert tls/certificate.pem --tls-key tls/key.pem
