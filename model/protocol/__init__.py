"""The interactive protocol: PET/CTs segmented step by step with more and more clicks, and scored."""
