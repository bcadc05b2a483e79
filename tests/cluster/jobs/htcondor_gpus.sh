#!/usr/bin/env condor_submit

MY.DaskWorkerName = "htcondor--$F(MY.JobId)--"
batch_name = tomodask-sample_7
RequestCpus = MY.DaskWorkerCores
RequestMemory = floor(MY.DaskWorkerMemory / 1048576)
RequestDisk = floor(MY.DaskWorkerDisk / 1024)
MY.JobId = "$(ClusterId).$(ProcId)"
MY.DaskWorkerCores = 16
MY.DaskWorkerMemory = 64000000000
MY.DaskWorkerDisk = 10000000000
LogDirectory = logs
Output = $(LogDirectory)/worker-$F(MY.JobId).out
Error = $(LogDirectory)/worker-$F(MY.JobId).err
Log = $(LogDirectory)/worker-$(ClusterId).log
Stream_Output = True
Stream_Error = True
request_gpus = 4

Arguments = "-c 'python -m tomodask.cluster.worker tls://10.0.0.1:8786 --name worker --nthreads 4 --memory-limit 14.90GiB --death-timeout 60 --nworkers 4 --gpus 4 --protocol tls:// --tls-ca-file tls/certificate.pem --tls-cert tls/certificate.pem --tls-key tls/key.pem'"
Executable = /bin/sh

Queue
