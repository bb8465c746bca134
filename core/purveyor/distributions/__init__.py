"""What is installed beside Purveyor: distributions of plugins, from which wheel, by whom."""
