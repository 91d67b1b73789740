"""Every way of installing that changes which objects there are: the topologies, and each feature by itself."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.helm import Values

RWX = {"home.accessMode": "ReadWriteMany"}
AUTH = {
    "auth.enabled": True,
    "auth.jwksUrl": "https://issuer.example.org/keys",
    "auth.issuer": "https://issuer.example.org",
    "auth.audience": "winnow",
}
FACE = {"tls.face.secret": "face-cert"}

PASSWORD = {
    "kafka.external": "kafka-0.example.org:9096,kafka-1.example.org:9096",
    "env": {
        "WINNOW_KAFKA_SECURITY": "SASL_SSL",
        "WINNOW_KAFKA_USER": "winnow",
        "WINNOW_KAFKA_PASSWORD": {"secret": "shop-kafka", "key": "password"},
    },
}

COMBINATIONS: Mapping[str, Values] = {
    "default": Values(),
    "laptop": Values(("values-laptop.yaml",)),
    "gpu": Values(("values-gpu.yaml",)),
    "ha": Values(("values-ha.yaml",)),
    "gpu and ha": Values(("values-gpu.yaml", "values-ha.yaml")),
    "laptop, watched": Values(("values-laptop.yaml",), {"monitoring.enabled": True, "monitoring.dashboards": True}),
    "external parts": Values(
        single={
            "redis.external": "rediss://redis.example.org:6380/0",
            "kafka.external": "kafka-0.example.org:9093,kafka-1.example.org:9093",
            "mlflow.external": "https://mlflow.example.org",
            "triton.enabled": True,
            "triton.external": "triton.example.org:8001",
            "triton.repository.existingClaim": "models",
            "network.external": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        }
    ),
    "address of Redis from a Secret": Values(single={"redis.externalSecret.name": "shop-redis"}),
    "external stores of MLflow": Values(
        single={
            "mlflow.database.external": "postgresql://winnow@db.example.org:5433/mlflow",
            "mlflow.objects.external": "https://s3.example.org",
            "secrets.name": "shop-secrets",
        }
    ),
    "without Redis": Values(single={"redis.enabled": False, "stream.enabled": False}),
    "without Kafka": Values(single={"kafka.enabled": False, "stream.enabled": False}),
    "Triton on CPUs": Values(single={"triton.enabled": True, "triton.replicas": 2}),
    "TensorRT": Values(("values-gpu.yaml",), {"triton.tensorrt": True}),
    "stream on an object store": Values(single={"stream.root": "s3a://shop/winnow"}),
    "start with data": Values(single={"start.data": "/data/shop", "start.claim": "shop-data"}),
    "start without training": Values(single={"start.data": "generated:5000", "start.train": False}),
    "training over nodes": Values(single={"training.enabled": True, **RWX}),
    "training on one node": Values(single={"training.enabled": True, "training.nodes": 1, "training.gpus": 0}),
    "one schedule": Values(
        single={
            "schedules.retrain.enabled": False,
            "schedules.retrain-ranking.enabled": False,
            "scheduled.suspend": True,
        }
    ),
    "no hooks": Values(single={"hooks": {"topics": False, "database": False}, "secrets.name": "shop-secrets"}),
    "External Secrets": Values(single={"secrets.external.store": "vault", "secrets.external.path": "winnow/prod"}),
    "ingress": Values(single={"ingress.enabled": True, "ingress.className": "nginx", "ingress.tlsSecret": "shop-tls"}),
    "watched": Values(single={"monitoring.enabled": True, "monitoring.labels": {"release": "prometheus"}}),
    "open network": Values(single={"network.policies": False}),
    "closed network": Values(
        single={
            "network.clients": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}],
            "network.browsers": [{"podSelector": {"matchLabels": {"app": "proxy"}}}],
        }
    ),
    "mTLS": Values(single={"tls.enabled": True}),
    "mTLS by another issuer": Values(
        single={"tls.enabled": True, "tls.issuer": {"name": "company", "kind": "ClusterIssuer"}}
    ),
    "mTLS by Secrets": Values(
        single={
            "tls.enabled": True,
            "tls.secrets": {n: f"{n}-cert" for n in ("gateway", "feature", "retrieval", "ranking", "explanation")},
        }
    ),
    "TLS at the gateway": Values(single={**FACE, "monitoring.enabled": True}),
    "TLS at the gateway alone, in one process": Values(("values-laptop.yaml",), {"tls.face.secret": "face-cert"}),
    "TLS everywhere": Values(single={**FACE, "tls.enabled": True, "ingress.enabled": True}),
    "audit, signed": Values(single={"audit.existingSecret": "audit-keys"}),
    "audit, signed, in one process": Values(("values-laptop.yaml",), {"audit.existingSecret": "audit-keys"}),
    "audit on one volume": Values(single={"audit.shared": True, "audit.keys.signing": ""}),
    "audit on a volume that is there": Values(single={"audit.shared": True, "audit.existingClaim": "records"}),
    "tokens": Values(single=AUTH),
    "API keys": Values(single={"auth.enabled": True, "auth.apiKeys.secret": "shop-keys", "monitoring.enabled": True}),
    "API keys in one process": Values(
        ("values-laptop.yaml",), {"auth.enabled": True, "auth.apiKeys": {"secret": "shop-keys", "key": "keys.json"}}
    ),
    "rules": Values(single={"rules.configMap": "shop-rules"}),
    "rules in one process": Values(("values-laptop.yaml",), {"rules": {"configMap": "shop-rules", "key": "may.json"}}),
    "brokers with a password": Values(single={**PASSWORD, "start.data": "ml-100k", "training.enabled": True, **RWX}),
    "traces": Values(single={"tracing.endpoint": "http://collector.tracing:4317"}),
    "everything": Values(
        ("values-gpu.yaml", "values-ha.yaml"),
        {
            "tls.enabled": True,
            **FACE,
            "audit.existingSecret": "audit-keys",
            "alerts.runbookBase": "https://shop.example.org/docs/runbooks.md",
            "ingress.enabled": True,
            "tracing.endpoint": "http://collector.tracing:4317",
            "training.enabled": True,
            "start.data": "ml-1m",
            **AUTH,
            "auth.apiKeys.secret": "shop-keys",
            "rules.configMap": "shop-rules",
        },
    ),
    "a long name": Values(single={"nameOverride": "a-shop-with-a-very-long-name-indeed-for-a-release"}),
    "images by digest": Values(
        single={
            "images.registry": "registry.example.org/shop",
            "images.jobs.digest": "sha256:" + "0" * 64,
            "images.pullSecrets": ["pull"],
        }
    ),
}
