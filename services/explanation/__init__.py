"""Says why an item is shown: templates, filled only with facts that hold."""
