"""Proof of the chart without a cluster: renders it by Helm and holds every object against what Kubernetes takes, what
the services take, and what the diagram allows. Knows no cluster and starts nothing but Helm."""
