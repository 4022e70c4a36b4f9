"""Pages of saved reports, and of the e-mails that send them."""
