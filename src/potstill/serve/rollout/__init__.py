"""Rollout stages of routes, shared between processes, and the policy that a route's settings come to."""
