"""What a fit returns, and how it is stored."""
