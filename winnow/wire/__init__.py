"""Each port over gRPC: conversions both ways, a servicer, a client. Protobuf stops here."""
