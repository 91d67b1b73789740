"""The real parts beside Winnow on one machine: Redis, a Kafka-compatible broker, MLflow, Triton, Spark's jobs.

`make up` starts them, `make down` stops them, and the tests start their own. One file a part: each says what command
runs it and how one knows that it answers. On a cluster the chart does this job; nothing that serves imports this.
"""
