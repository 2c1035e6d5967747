"""Whether mail is from whom it says: DKIM, ARC, SPF, DMARC. Answers of the DNS, keys and times are passed in."""
