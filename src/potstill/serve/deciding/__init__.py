"""Who answers a request of a route with a student: demonstrations, votes, costs of switching, shadows, verdicts."""
