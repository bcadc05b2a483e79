#!/usr/bin/env bash

#OAR -n tomodask-sample_7
#OAR -q default
#OAR -l /nodes=1/core=16,walltime=04:00:00

python -m tomodask.cluster.worker tls://10.0.0.1:8786 --name worker --nthreads 4 --memory-limit 14.90GiB --death-timeout 60 --nworkers 4 --walltime 14400 --protocol tls:// --tls-ca-file tls/certificate.pem --tls-cert tls/certificate.pem --tls-key tls/key.pem
