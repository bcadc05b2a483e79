#!/usr/bin/env bash

#BSUB -J tomodask-sample_7
#BSUB -e logs/worker-%J.err
#BSUB -o logs/worker-%J.out
#BSUB -q normal
#BSUB -n 16
#BSUB -R "span[hosts=1]"
#BSUB -M 64000000
#BSUB -W 04:00
#BSUB -gpu num=4

python -m tomodask.cluster.worker tls://10.0.0.1:8786 --name worker --nthreads 4 --memory-limit 14.90GiB --death-timeout 60 --nworkers 4 --gpus 4 --walltime 14400 --protocol tls:// --tls-ca-file tls/certificate.pem --tls-cert tls/certificate.pem --tls-key tls/key.pem
