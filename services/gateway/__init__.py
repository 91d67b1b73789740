"""The gateway: parses, fans out, arranges, answers. REST and gRPC over one port."""
