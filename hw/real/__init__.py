"""Real boards: drivers for Linux, the machine itself, and an emulated one to fly them on."""
