"""How pages write dates and times, where Django's own formats don't do (`FORMAT_MODULE_PATH`)."""
