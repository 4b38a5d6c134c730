# Seconds of one fit, after one that warms up: Rscript glmm.R package table formula family link nAGQ groups
a <- commandArgs(trailingOnly = TRUE)
suppressPackageStartupMessages(library(a[1], character.only = TRUE))
data <- read.csv(a[2])
for (name in strsplit(a[7], ",")[[1]]) data[[name]] <- factor(data[[name]])
for (name in intersect(c("period", "YEAR", "nutrient"), names(data))) data[[name]] <- factor(data[[name]])
formula <- as.formula(a[3])
family <- switch(a[4], nbinom2 = glmmTMB::nbinom2(), t = glmmTMB::t_family(), do.call(a[4], list(link = a[5])))
fit <- function() {
  if (a[1] == "glmmTMB") glmmTMB(formula, data, family = family)
  else glmer(formula, data, family = family, nAGQ = as.integer(a[6]))
}
seconds <- system.time(suppressWarnings(suppressMessages(fit())))[["elapsed"]]
if (seconds < 5) seconds <- system.time(suppressWarnings(suppressMessages(fit())))[["elapsed"]]
cat(seconds, "\n")
