"""What a run tells of itself while it trains: metrics, pace, pictures, sound and profiles."""
