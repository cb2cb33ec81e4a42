"""The gRPC services' messages: a compiled descriptor set, its typed stubs, and the classes made from it."""
