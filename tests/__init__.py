"""The tests: behaviour through the doors of each room."""
