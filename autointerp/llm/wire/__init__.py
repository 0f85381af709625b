"""The wire format of endpoints: requests, replies, dialects and errors."""
