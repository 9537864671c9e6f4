"""Who a caller is and how that is proved: identities, certificates, tokens, quotas."""
