# A posterior of a GLMM by rstanarm: Rscript glmm_posterior.R table formula family group chains draws tune seed out
a <- commandArgs(trailingOnly = TRUE)
suppressPackageStartupMessages(library(rstanarm))
data <- read.csv(a[1])
for (name in c(a[4], intersect("period", names(data)))) data[[name]] <- factor(data[[name]])
n <- as.integer(a[5:8])
began <- proc.time()[["elapsed"]]
fit <- suppressWarnings(stan_glmer(
  as.formula(a[2]), data = data, family = a[3], chains = n[1], iter = n[2] + n[3], warmup = n[3], seed = n[4],
  refresh = 0, cores = min(parallel::detectCores(), n[1])
))
draws <- as.array(fit)
seconds <- proc.time()[["elapsed"]] - began
names_ <- dimnames(draws)[[3]]
keep <- !grepl("^(lp__|log-posterior|mean_PPD)", names_)
connection <- file(a[9], "wb")
writeBin(as.double(draws[, , keep]), connection)
close(connection)
cat(seconds, sum(keep), "\n")
