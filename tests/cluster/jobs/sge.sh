#!/usr/bin/env bash

#$ -N tomodask-sample_7
#$ -q all.q
#$ -l h_vmem=64G
#$ -l h_rt=04:00:00
#$ -e logs/
#$ -o logs/
#$ -cwd
#$ -j y

python -m tomodask.cluster.worker tls://10.0.0.1:8786 --name worker --nthreads 4 --memory-limit 14.90GiB --death-timeout 60 --nworkers 4 --walltime 14400 --protocol tls:// --tls-ca-file tls/certificate.pem --tls-cert tls/certificate.pem --tls-key tls/key.pem
