"""The cohort of real CTs that the demonstration weights are trained and measured on."""
