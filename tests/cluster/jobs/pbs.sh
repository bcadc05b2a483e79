#!/usr/bin/env bash

#PBS -N tomodask-sample_7
#PBS -q work
#PBS -l select=1:ncpus=16:mem=60GB
#PBS -l walltime=04:00:00
#PBS -e logs/
#PBS -o logs/

python -m tomodask.cluster.worker tls://10.0.0.1:8786 --name worker --nthreads 4 --memory-limit 14.90GiB --death-timeout 60 --nworkers 4 --walltime 14400 --protocol tls:// --tls-ca-file tls/certificate.pem --tls-cert tls/certificate.pem --tls-key tls/key.pem
