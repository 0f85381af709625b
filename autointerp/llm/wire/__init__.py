"""What is said to an endpoint and what it answers: requests, replies, dialects, errors."""
