"""Make the bucket of the bundled store, once; wait for the store meanwhile."""

import os

import boto3
from botocore.config import Config

patient = Config(connect_timeout=5, read_timeout=5, retries={"max_attempts": 10, "mode": "standard"})
s3 = boto3.client("s3", endpoint_url=os.environ["ENDPOINT"], config=patient)
held = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
if os.environ["BUCKET"] not in held:
    s3.create_bucket(Bucket=os.environ["BUCKET"])
