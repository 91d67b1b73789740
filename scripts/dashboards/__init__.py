"""Grafana's dashboards as code: a file a dashboard, and the JSON that the chart ships and a person can import."""
