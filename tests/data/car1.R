# Reference values for car1, an AR(1) in continuous time: nlme's corCAR1.
#
#     cd tests/data && Rscript car1.R > car1.json
#
# fits the tables that structured.R wrote; phi is the correlation of rows one unit of time apart.

suppressPackageStartupMessages(library(nlme))

tight <- glsControl(tolerance = 1e-12, msTol = 1e-12, maxIter = 500, msMaxIter = 500, apVar = FALSE)
tighter <- lmeControl(tolerance = 1e-12, msTol = 1e-12, maxIter = 500, msMaxIter = 500, apVar = FALSE, opt = "optim",
                      reltol = 1e-14)
ovary <- read.csv("ovary.csv")
bodyweight <- read.csv("bodyweight.csv")

fits <- character()
record <- function(data, formula, method, fit, sd_group = NULL) {
  phi <- coef(fit$modelStruct$corStruct, unconstrained = FALSE)
  beta <- if (inherits(fit, "gls")) coef(fit) else fixef(fit)
  numbers <- c(loglik = as.numeric(logLik(fit)), sigma = fit$sigma, phi = unname(phi), sd_group = sd_group)
  text <- paste(sprintf("\"%s\": %.12g", names(numbers), numbers), collapse = ", ")
  betas <- paste(sprintf("%.12g", beta), collapse = ", ")
  fits[[length(fits) + 1]] <<- sprintf('  {"data": "%s", "formula": "%s", "method": "%s", %s, "beta": [%s]}',
                                       data, formula, method, text, betas)
}
for (method in c("ML", "REML")) {
  record("ovary", "follicles ~ s1 + c1", method,
         gls(follicles ~ s1 + c1, ovary, corCAR1(0.01, form = ~ Time | Mare), method = method, control = tight))
  record("bodyweight", "weight ~ Time * Diet", method,
         gls(weight ~ Time * Diet, bodyweight, corCAR1(0.9, form = ~ Time | Rat), method = method, control = tight))
  fit <- lme(follicles ~ s1 + c1, ovary, ~ 1 | Mare, corCAR1(0.0001, form = ~ Time | Mare), method = method,
             control = tighter)
  record("ovary", "follicles ~ s1 + c1 + (1 | Mare)", method, fit, as.numeric(VarCorr(fit)["(Intercept)", "StdDev"]))
}
cat("[\n", paste(fits, collapse = ",\n"), "\n]\n", sep = "")
